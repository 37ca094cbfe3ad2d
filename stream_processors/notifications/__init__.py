"""The notifier: sends alerts and ended jobs and tasks to people and other systems."""
