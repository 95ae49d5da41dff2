"""Orders of segments: designs of several orders, and the places that scores give to segments."""
