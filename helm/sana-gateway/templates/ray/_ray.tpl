{{- /* What head and workers have in common. */ -}}

{{- define "sana.rayEnvironment" -}}
{{ include "sana.podIdentity" .root }}
# The root file system is read-only; what is worth keeping for a while goes to the cache.
- {name: HOME, value: /tmp}
- {name: XDG_CACHE_HOME, value: /var/cache/sana-gateway}
- {name: TRITON_CACHE_DIR, value: /var/cache/sana-gateway/triton}
- {name: TORCHINDUCTOR_CACHE_DIR, value: /var/cache/sana-gateway/inductor}
{{- with .extra }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* With these KubeRay puts in none of its own, which ask a dashboard that we do without. */ -}}
{{- define "sana.rayProbes" -}}
startupProbe:
  {{- include "sana.httpProbe" (dict "path" "/startupz" "port" "metrics" "period" 5 "failures" (div (int .startSeconds) 5)) | nindent 2 }}
livenessProbe:
  {{- include "sana.httpProbe" (dict "path" "/livez" "port" "metrics" "period" 10 "failures" 6) | nindent 2 }}
readinessProbe:
  {{- include "sana.httpProbe" (dict "path" "/readyz" "port" "metrics" "period" 5 "failures" 3) | nindent 2 }}
{{- end -}}

{{- define "sana.rayVolumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ .root.Values.ray.temporarySize }}
- name: cache
  emptyDir:
    sizeLimit: 10Gi
- name: shared-mem
  emptyDir:
    medium: Memory
    sizeLimit: {{ .sharedMemory }}
{{- if .root.Values.tls.enabled }}
{{ include "sana.secretVolume" (dict "name" "tls" "secretName" .root.Values.tls.secretName) }}
{{- end }}
{{- end -}}
