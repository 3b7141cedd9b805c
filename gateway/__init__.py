"""The grab path: HTTP in, one script call for many grabs, HTTP out."""
