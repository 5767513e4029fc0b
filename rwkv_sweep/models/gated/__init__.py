"""What the forwards of RWKV-4, 5 and 6, whose channel mix has a gate, have in common: all but the time mix."""
