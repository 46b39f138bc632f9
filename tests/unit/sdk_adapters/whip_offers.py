"""Offers of publishers and players that are in use, as they come."""

from __future__ import annotations

_FINGERPRINT = ":".join(["4E", "7F"] * 16)

OBS = f"""v=0
o=rtc 3877212184 0 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
a=group:LS 0 1
a=msid-semantic:WMS *
a=setup:actpass
a=ice-ufrag:nxcM
a=ice-pwd:ezjAjgSSLLvbRhUA1zc6Se
a=ice-options:ice2,trickle
a=fingerprint:sha-256 {_FINGERPRINT}
m=audio 9 UDP/TLS/RTP/SAVPF 111
c=IN IP4 0.0.0.0
a=mid:0
a=sendonly
a=ssrc:3388068600 cname:Yuu1KDxQcc3L5CpY
a=ssrc:3388068600 msid:XmQSKutZo7zYcEQl XmQSKutZo7zYcEQl-audio
a=msid:XmQSKutZo7zYcEQl XmQSKutZo7zYcEQl-audio
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10;maxaveragebitrate=96000;stereo=1;sprop-stereo=1;useinbandfec=1
m=video 9 UDP/TLS/RTP/SAVPF 96
c=IN IP4 0.0.0.0
a=mid:1
a=sendonly
a=ssrc:3388068601 cname:Yuu1KDxQcc3L5CpY
a=ssrc:3388068601 msid:XmQSKutZo7zYcEQl XmQSKutZo7zYcEQl-video
a=msid:XmQSKutZo7zYcEQl XmQSKutZo7zYcEQl-video
a=rtcp-mux
a=rtpmap:96 H264/90000
a=rtcp-fb:96 nack
a=rtcp-fb:96 nack pli
a=rtcp-fb:96 goog-remb
a=fmtp:96 profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1
""".replace("\n", "\r\n")
"""OBS Studio from 30.2 on: audio first, one H.264 profile, no candidates, DTLS for all sections."""

FFMPEG = f"""v=0
o=FFmpeg 4489045141692799359 2 IN IP4 127.0.0.1
s=FFmpegPublishSession
t=0 0
a=group:BUNDLE 0 1
a=extmap-allow-mixed
a=msid-semantic: WMS
m=audio 9 UDP/TLS/RTP/SAVPF 111
c=IN IP4 0.0.0.0
a=ice-ufrag:174b1dc5
a=ice-pwd:b8ea9a8c3fbca06f8ae9e0e8a8e4b4a5
a=fingerprint:sha-256 {_FINGERPRINT}
a=setup:passive
a=mid:0
a=sendonly
a=msid:FFmpeg audio
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=ssrc:3100834 cname:FFmpeg
m=video 9 UDP/TLS/RTP/SAVPF 106 105
c=IN IP4 0.0.0.0
a=ice-ufrag:174b1dc5
a=ice-pwd:b8ea9a8c3fbca06f8ae9e0e8a8e4b4a5
a=fingerprint:sha-256 {_FINGERPRINT}
a=setup:passive
a=mid:1
a=sendonly
a=msid:FFmpeg video
a=rtcp-mux
a=rtcp-rsize
a=rtpmap:106 H264/90000
a=fmtp:106 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f
a=rtcp-fb:106 nack
a=rtpmap:105 rtx/90000
a=fmtp:105 apt=106
a=ssrc:3100835 cname:FFmpeg
""".replace("\n", "\r\n")
"""FFmpeg 8 with x264's default profile: High, and DTLS as a server."""

PLAYER = f"""v=0
o=- 1 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
m=audio 9 UDP/TLS/RTP/SAVPF 111
c=IN IP4 0.0.0.0
a=ice-ufrag:EsAw
a=ice-pwd:bP+XJMM09aR8AiX1jdukzR6Y
a=fingerprint:sha-256 {_FINGERPRINT}
a=setup:actpass
a=mid:0
a=recvonly
a=rtcp-mux
a=rtpmap:111 opus/48000/2
m=video 9 UDP/TLS/RTP/SAVPF 96 97
c=IN IP4 0.0.0.0
a=ice-ufrag:EsAw
a=ice-pwd:bP+XJMM09aR8AiX1jdukzR6Y
a=fingerprint:sha-256 {_FINGERPRINT}
a=setup:actpass
a=mid:1
a=recvonly
a=rtcp-mux
a=rtpmap:96 VP8/90000
a=rtcp-fb:96 nack pli
a=rtpmap:97 H264/90000
a=fmtp:97 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
""".replace("\n", "\r\n")
"""A player in a browser."""

FRAGMENT = """a=ice-ufrag:nxcM
a=ice-pwd:ezjAjgSSLLvbRhUA1zc6Se
m=audio 9 UDP/TLS/RTP/SAVPF 0
a=mid:0
a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag nxcM
a=candidate:473322822 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active generation 0
a=end-of-candidates
""".replace("\n", "\r\n")
"""What a client of the offer of `OBS` would trickle."""


def in_h265(offer: str) -> str:
    """Returns an offer whose video is in a codec that nobody here speaks."""
    return offer.replace("H264/90000", "H265/90000").replace("VP8/90000", "H265/90000")
