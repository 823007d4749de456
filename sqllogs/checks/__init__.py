"""System checks of the settings, and of the lines that the host project needs."""
