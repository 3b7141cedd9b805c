"""What happens beside the grab: management now, wallet and checkout later."""
