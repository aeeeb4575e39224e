"""What other libraries call: each module needs its library, none is imported by the rest of the package."""
