"""The vocabulary of Kedge: values, errors, limits and ports. Pure; imports no other part."""
