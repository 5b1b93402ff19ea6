"""The control plane: moto in this process, extended where it lacks something that this project deploys or reads."""
