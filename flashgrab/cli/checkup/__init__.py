"""What `flashgrab doctor` looks at: one module for each thing, the hints as data."""
