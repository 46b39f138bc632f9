{{- /* The settings file of a gateway. Takes `root` and the index of its public address. */ -}}
{{- define "sana.gatewaySettings" -}}
{{- $values := .root.Values -}}
{{- $ports := $values.webrtc.udpPorts -}}
{{- $settings := dict
      "host" $values.gateway.host
      "http_port" (int $values.gateway.ports.http)
      "grpc_port" (int $values.gateway.ports.grpc)
      "placement_address" (printf "%s:%d" (include "sana.head" .root) (int $values.scheduler.port))
      "media_workers" (int $values.gateway.mediaWorkers)
      "udp_ports" (printf "%d-%d" (int $ports.first) (int $ports.last))
      "auth" $values.auth.plugin
      "audit_log" "-"
      "log_level" $values.telemetry.logLevel
      "storage" $values.storage.plugin
      "storage_options" $values.storage.options -}}
{{- if eq $values.storage.plugin "filesystem" -}}
{{- $_ := set $settings "storage_options" (merge (dict "root" $values.paths.storage) $values.storage.options) -}}
{{- end -}}
{{- if include "sana.hasKeys" .root -}}
{{- $_ := set $settings "api_keys" (printf "%s/api-keys/%s" $values.paths.secrets $values.auth.apiKeys.key) -}}
{{- $_ := set $settings "token_secret" (printf "%s/token/%s" $values.paths.secrets $values.auth.tokenSecret.key) -}}
{{- end -}}
{{- with $values.auth.options -}}
{{- $_ := set $settings "auth_options" . -}}
{{- end -}}
{{- if $values.tls.enabled -}}
{{- $_ := set $settings "tls" (printf "%s/tls" $values.paths.secrets) -}}
{{- end -}}
{{- if $values.gateway.tls.enabled -}}
{{- $_ := set $settings "tls_cert" (printf "%s/public-tls/tls.crt" $values.paths.secrets) -}}
{{- $_ := set $settings "tls_key" (printf "%s/public-tls/tls.key" $values.paths.secrets) -}}
{{- end -}}
{{- with $values.telemetry.otlpEndpoint -}}
{{- $_ := set $settings "otlp_endpoint" . -}}
{{- end -}}
{{- $ice := $values.webrtc.iceServers -}}
{{- if $values.coturn.enabled -}}
{{- $host := $values.coturn.publicHost -}}
{{- $ice = concat $ice (list
      (printf "turn:%s:%d?transport=udp" $host (int $values.coturn.port))
      (printf "turn:%s:%d?transport=tcp" $host (int $values.coturn.port))) -}}
{{- if $values.coturn.tls.enabled -}}
{{- $ice = append $ice (printf "turns:%s:%d?transport=tcp" $host (int $values.coturn.tls.port)) -}}
{{- end -}}
{{- $_ := set $settings "turn_secret" (printf "%s/turn/%s" $values.paths.secrets $values.coturn.secretKey) -}}
{{- end -}}
{{- with $ice -}}
{{- $_ := set $settings "ice_servers" . -}}
{{- end -}}
{{- if eq $values.webrtc.exposure "loadBalancer" -}}
{{- $_ := set $settings "udp_address" (index $values.webrtc.loadBalancer.addresses .index) -}}
{{- end -}}
{{- merge (deepCopy $values.gateway.config) $settings | toToml -}}
{{- end -}}

{{- /* Not empty where API keys are asked for: `api-key`, or one of several plugins. */ -}}
{{- define "sana.hasKeys" -}}
{{- if has "api-key" (splitList "," .Values.auth.plugin) -}}yes{{- end -}}
{{- end -}}

{{- /* Gateways behind load balancers have an address, and so a file, each. */ -}}
{{- define "sana.gatewayFile" -}}
{{- if eq .Values.webrtc.exposure "loadBalancer" -}}$(POD_NAME).toml{{- else -}}gateway.toml{{- end -}}
{{- end -}}
