"""What every service shares: errors, settings, logs, HTTP skeleton, supervised processes, pictures, object stores."""
