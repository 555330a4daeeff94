"""How good values are: measured against the truth, or against what another network found. One file a measure."""
