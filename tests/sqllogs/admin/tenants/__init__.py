"""The app of a project whose customers each have a schema of PostgreSQL, by django-tenants."""
