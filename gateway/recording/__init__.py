"""Recordings of sessions, remuxed from what viewers are given; see `docs/recording.md`.

A `recorder` is one more viewer of a session's H.264 output. `cutting` (pure) cuts what it is
given into segments, `remuxing` makes fragmented MP4 of each, `shelf` keeps them in the storage
beside an `index` (pure), from which any gateway serves clips (`library`, `playlist`).
`recordings` runs the recorders of a process, `expiry` removes what is too old or too much.
"""
