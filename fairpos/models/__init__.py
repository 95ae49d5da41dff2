"""Where models come from: embedded ones inside packages, folders, hub ids."""
