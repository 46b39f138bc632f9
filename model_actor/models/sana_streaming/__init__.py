"""SANA-Streaming: video edited by prompt, by streaming diffusion. Needs the extra `sana`."""
