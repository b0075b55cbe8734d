"""The pages that a person sees: HTML made here, small scripts of our own, and nothing from elsewhere.

Each page works without its scripts wherever a form can do the work; `docs/pages.md` says how to restyle them.
"""
