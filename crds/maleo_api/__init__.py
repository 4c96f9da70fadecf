"""The API types of group maleo.dev: pydantic models are the source of truth, CRDs are generated from them."""
