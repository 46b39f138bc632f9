{{- /* Names, labels and images. */ -}}

{{- define "sana.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- /* At most 40 characters: KubeRay adds to it, and refuses clusters of more than 53. */ -}}
{{- define "sana.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "sana.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "sana.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "sana.selector" -}}
app.kubernetes.io/name: {{ include "sana.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- define "sana.labels" -}}
{{ include "sana.selector" . }}
app.kubernetes.io/part-of: sana-gateway
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "sana.image" -}}
{{- $image := index .root.Values.images .name -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default .root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "sana.cluster" -}}
{{ include "sana.fullname" . }}-ray
{{- end -}}

{{- /* Where gateways and actors reach the head. */ -}}
{{- define "sana.head" -}}
{{- default (printf "%s-head.%s.svc.%s" (include "sana.fullname" .) .Release.Namespace .Values.clusterDomain) .Values.scheduler.host -}}
{{- end -}}

{{- define "sana.claim" -}}
{{- default (printf "%s-storage" (include "sana.fullname" .)) .Values.storage.existingClaim -}}
{{- end -}}
