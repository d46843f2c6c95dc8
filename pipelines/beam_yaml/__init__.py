"""The steps as transforms of Beam YAML."""
