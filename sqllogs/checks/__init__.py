"""System checks: every setting makes sense, and the host project has the lines that the app needs."""
