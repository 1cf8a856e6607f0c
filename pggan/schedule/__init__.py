"""When to fade, when to grow, when to stop. Pure; no torch and no clock."""
