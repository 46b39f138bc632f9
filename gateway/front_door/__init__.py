"""Signalling and media in processes of their own: one front door, N media workers.

A *media worker* is a whole gateway of its own: sessions, links to actors, play-out, WebRTC
peers. It listens on unix sockets in a private folder, and its WebRTC clients reach it
over UDP. The *front door* has the public ports, terminates HTTP and gRPC, and forwards
each call to the worker that owns its session. A join storm, slow clients and garbage
thus meet a process that paces no video.

Nobody keeps a table: a session belongs to worker `crc32(session_id) % N`, and a worker
draws ids until one is its own. Whichever part restarts, the others find it again.
"""
