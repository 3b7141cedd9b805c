"""The live screen of `flashgrab top`: what is known (view), how it is drawn, keys and terminal."""
