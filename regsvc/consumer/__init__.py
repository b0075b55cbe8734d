"""What happens after the answer: one module, one supervised child."""
