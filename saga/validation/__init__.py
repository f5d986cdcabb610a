"""What a declaration is checked for, when it is made."""
