"""One file a system; `systems.py` names them all."""
