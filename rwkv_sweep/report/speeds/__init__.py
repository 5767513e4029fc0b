"""Which speeds and sizes of a sweep may be compared, and which runs or precisions no other is shown to beat."""
