"""The user's model: how it is called and read, run under masks, and given back as it was."""
