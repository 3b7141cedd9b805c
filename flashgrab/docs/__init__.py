"""What both services show of themselves to people: /docs, /problems, the events' documents."""
