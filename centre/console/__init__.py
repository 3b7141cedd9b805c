"""The operator's console: what the parts say twice a second, kept, and told to the pages."""
