{{- /* Who is who in network policies. */ -}}

{{- define "sana.peer" -}}
- podSelector:
    matchLabels:
      {{- include "sana.selector" . | nindent 6 }}
{{- end -}}

{{- /* Gateways on the network of their nodes have the addresses of these. */ -}}
{{- define "sana.gatewayPeers" -}}
{{- include "sana.peer" (dict "root" . "component" "gateway") }}
{{- if eq .Values.webrtc.exposure "hostNetwork" }}
{{- range .Values.networkPolicy.nodeCidrs }}
- ipBlock: {cidr: {{ . }}}
{{- end }}
{{- end }}
{{- end -}}

{{- define "sana.names" -}}
- to:
    - namespaceSelector: {}
      podSelector:
        matchLabels: {k8s-app: kube-dns}
  ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end -}}

{{- define "sana.policy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "sana.fullname" .root }}-{{ default "default-deny" .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "sana.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "sana.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
{{- end -}}
