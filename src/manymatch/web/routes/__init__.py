"""The routes: each reads what is asked, asks the desk, and tells OpenAPI what it does."""
