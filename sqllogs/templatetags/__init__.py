"""Template tag library for the templates of the admin, which the host's engine renders."""
