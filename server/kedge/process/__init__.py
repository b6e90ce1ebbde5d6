"""Child processes and the messages between them: what every process of the server shares."""
