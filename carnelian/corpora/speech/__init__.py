"""Speech for any text, from synthetic voices."""
