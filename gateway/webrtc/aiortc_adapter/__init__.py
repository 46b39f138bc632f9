"""Encoded frames through aiortc. The one package that touches its private parts.

aiortc encodes and decodes in threads of its own; here both are replaced, so that packets
of encoded frames pass, and what the far end says about them (PLI, FIR, REMB) is heard.
The replaced parts are named in one place each and looked up before they are replaced:
with another aiortc `require_supported` or `_replace` fails, nothing silently falls back.

What is changed, and why (aiortc 1.16):

* sender: `_run_rtp` (frames leave within the call that brings them, encrypted in place
  and sent through the socket of the ICE pair in one system call), `_handle_rtcp_packet`
  (what the viewer says acts at once; retransmission is bounded);
* receiver: all of it (a packet is decrypted and assembled where it is read; frames are
  released by marker bit; nothing is decoded);
* transports: the sockets of the ICE connection (ports of a range, large buffers, a lost
  client is noticed, strangers are not heard), what may wait for the DTLS transport, the
  streams it keeps, how much feedback is read, what data channels keep unfinished;
* peer connection: the certificate (one for many peers) and which of these parts it takes.
"""

from gateway.webrtc.aiortc_adapter.connection import Certificates, PeerConnection
from gateway.webrtc.aiortc_adapter.guard import require_supported
from gateway.webrtc.aiortc_adapter.receiving import FrameReceiver
from gateway.webrtc.aiortc_adapter.sending import FrameSender, Reception, ViewerFeedback
from gateway.webrtc.aiortc_adapter.transport import add_candidates, release_sockets
from gateway.webrtc.evidence import Evidence

__all__ = [
    "Certificates",
    "Evidence",
    "FrameReceiver",
    "FrameSender",
    "PeerConnection",
    "Reception",
    "ViewerFeedback",
    "add_candidates",
    "release_sockets",
    "require_supported",
]
