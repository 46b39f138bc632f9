/** What is shown: the edited video, and the camera that goes in. */
import { createElement, useEffect, useRef, type ReactElement, type VideoHTMLAttributes } from "react";
import type { CameraOptions } from "../index.js";
import { useSana, useSanaStatus } from "./hooks.js";

type Video = Omit<VideoHTMLAttributes<HTMLVideoElement>, "onError">;

/** Properties of `SanaVideo`: those of a video element. */
export type SanaVideoProps = Video;

/** Shows the edited video. */
export function SanaVideo(props: SanaVideoProps): ReactElement {
  const model = useSana();
  const element = useRef<HTMLVideoElement>(null);
  useEffect(() => (element.current ? model.attach(element.current) : undefined), [model]);
  return createElement("video", { muted: true, autoPlay: true, playsInline: true, ...props, ref: element });
}

/** Properties of `SanaWebcam`: those of a video element, and of the camera. */
export interface SanaWebcamProps extends Video {
  /** Which camera, and how it films. */
  readonly constraints?: MediaTrackConstraints;
  /** Whether to publish it; true by default. */
  readonly publish?: boolean;
  readonly camera?: CameraOptions;
  /** The camera was refused, or somebody else publishes. */
  readonly onCameraError?: (error: unknown) => void;
}

/** Shows the user's camera, and publishes it while the model is ready. */
export function SanaWebcam(properties: SanaWebcamProps): ReactElement {
  const { constraints, publish = true, camera, onCameraError, ...props } = properties;
  const model = useSana();
  const ready = useSanaStatus() === "ready";
  const element = useRef<HTMLVideoElement>(null);
  const stream = useRef<Promise<MediaStream> | null>(null);
  const given = useRef({ constraints, camera, onCameraError });
  given.current = { constraints, camera, onCameraError };
  useEffect(() => {
    let mounted = true;
    const asked = (stream.current = navigator.mediaDevices.getUserMedia({ video: given.current.constraints ?? true }));
    asked.then(
      (taken) => void (mounted && element.current && (element.current.srcObject = taken)),
      (error: unknown) => mounted && given.current.onCameraError?.(error),
    );
    return () => {
      mounted = false;
      void asked.then(stop, () => undefined);
    };
  }, []);
  useEffect(() => {
    if (!ready || !publish) return undefined;
    let wanted = true;
    const begin = async () => {
      const taken = await stream.current?.catch(() => null);
      if (!wanted || !taken) return;
      await model.publishCamera(taken, given.current.camera);
    };
    begin().catch((error: unknown) => wanted && given.current.onCameraError?.(error));
    return () => {
      wanted = false;
      if (model.status === "ready") void model.unpublish();
    };
  }, [model, ready, publish]);
  return createElement("video", { muted: true, autoPlay: true, playsInline: true, ...props, ref: element });
}

const stop = (stream: MediaStream) => stream.getTracks().forEach((track) => track.stop());
