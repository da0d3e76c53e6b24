"""Where the files of an export lie: bertrt's own layout, and the hub's, which others read."""
