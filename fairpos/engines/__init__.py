"""A model that works in several processes, on one machine or on many: what asks it stays in this one."""
