"""Django's connections as the framework uses them."""
