"""What templates of the host project's engine may load: those of the admin."""
