"""What the API accepts and shows about who may sign up."""
