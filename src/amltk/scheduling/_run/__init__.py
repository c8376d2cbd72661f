"""One run, from `@start` to `@finished`: what is pending, what is delivered, and how it ends."""
