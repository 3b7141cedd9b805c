"""The topics that relay and worker make when the broker does not have them."""

from flashgrab import keys

GRABS_PARTITIONS = 8
"""Partitions of flashgrab.grabs: as many workers can share the work. Facts go by user id."""

TOPICS = {keys.GRABS_TOPIC: GRABS_PARTITIONS, keys.DEAD_TOPIC: 1}
