"""How the codes of int4 are chosen better than by rounding: without data (HQQ), or by what layers read (GPTQ)."""
