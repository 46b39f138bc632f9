"use strict";

// A worker between the network and the decoder: tells of each encoded frame, spoils frames and
// asks for keyframes when told to.

let toSpoil = 0, tapped;

onrtctransform = async ({ transformer }) => {
  tapped = transformer;
  const reader = transformer.readable.getReader();
  const writer = transformer.writable.getWriter();
  for (let next; !(next = await reader.read()).done;) {
    const frame = next.value, bytes = frame.data.byteLength, spoilt = toSpoil > 0;
    if (spoilt) {
      toSpoil--;
      frame.data = frame.data.slice(0, 5);
    }
    writer.write(frame);
    const { rtpTimestamp } = frame.getMetadata();
    postMessage({ key: frame.type === "key", bytes, rtpTimestamp, spoilt });
  }
};

onmessage = ({ data }) => {
  if (data.spoil) toSpoil = data.spoil;
  if (data.refresh) tapped.sendKeyFrameRequest();
};
