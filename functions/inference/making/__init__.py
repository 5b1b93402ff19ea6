"""The build step: packs the pictures and makes the model of one engine. None of it is in the finished image."""
