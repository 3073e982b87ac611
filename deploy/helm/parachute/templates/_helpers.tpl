{{- define "parachute.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "parachute.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "parachute.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "parachute.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "parachute.selector" -}}
app.kubernetes.io/name: {{ include "parachute.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "parachute.labels" -}}
{{ include "parachute.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "parachute.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ with .Values.image.variant }}-{{ . }}{{ end }}
{{- end -}}
{{- end -}}

{{- define "parachute.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "parachute.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "parachute.tokens" -}}
{{- .Values.web.tokens.existingSecret | default (printf "%s-tokens" (include "parachute.fullname" .)) -}}
{{- end -}}

{{- define "parachute.scheme" -}}
{{- if .Values.web.tls.existingSecret }}https{{ else }}http{{ end -}}
{{- end -}}

{{- /* The configuration, with `probe_root` before it unless it is in there, and with `peers` after it. */ -}}
{{- define "parachute.config" -}}
{{- $given := .Values.config | default (.Files.Get "files/parachute.yml") -}}
{{- $text := $given -}}
{{- if not (regexMatch "(?m)^probe_root:" $given) -}}
{{- $text = printf "probe_root: %s\n%s" .Values.probeRoot $given -}}
{{- end -}}
{{- if .Values.peers.enabled -}}
{{- /* Where Helm's reader of YAML gives up, the agent's decides; a line that looks like the section is still refused. */ -}}
{{- $read := fromYaml $given -}}
{{- if or (hasKey $read "peers") (and (hasKey $read "Error") (regexMatch "(?m)^[\"']?peers[\"']?[ \t]*:" $given)) -}}
{{- fail "the value config has a section `peers`, which the chart writes itself: remove it and use the values peers.settings and peers.clusterDomain, or set peers.enabled=false" -}}
{{- end -}}
{{- $text = printf "%s\n%s" (trimSuffix "\n" $text) (include "parachute.peers" .) -}}
{{- if not (or (hasKey $read "Error") (hasKey (fromYaml $text) "peers")) -}}
{{- fail "the section `peers` cannot be added to the value config: write its sections from the first column, without braces around them and without the lines `---` and `...`, or set peers.enabled=false" -}}
{{- end -}}
{{- end -}}
{{- $text -}}
{{- end -}}

{{- /* The whole name, which is also what the certificate is for. */ -}}
{{- define "parachute.peersName" -}}
{{ include "parachute.fullname" . }}-peers.{{ .Release.Namespace }}.svc.{{ .Values.peers.clusterDomain }}
{{- end -}}

{{- define "parachute.peers" -}}
{{- /* With the last dot nobody but the cluster's DNS is asked for it: the search list of a pod ends with the node's domains. */ -}}
peers:
  service: {{ include "parachute.peersName" . }}.:{{ .Values.web.port }}
  token_file: /etc/parachute/tokens/peers
  scheme: {{ include "parachute.scheme" . }}
  {{- if .Values.web.tls.existingSecret }}
  ca_file: /etc/parachute/tls/ca.crt
  {{- end }}
  {{- with .Values.peers.settings }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{ end -}}

{{- define "parachute.peersSecret" -}}
{{- .Values.peers.existingSecret | default (printf "%s-peers" (include "parachute.fullname" .)) -}}
{{- end -}}

{{- define "parachute.web" -}}
{{- with .Values.web.tls.existingSecret -}}
tls_server_config: { cert_file: tls/tls.crt, key_file: tls/tls.key }
{{ end -}}
bearer_tokens:
  prometheus: { roles: [read], file: tokens/prometheus }
  alertmanager: { roles: [trigger], file: tokens/alertmanager }
  view: { roles: [read, view, trigger], file: tokens/view }
{{- if .Values.peers.enabled }}
  peers: { roles: [trigger], file: tokens/peers }
{{- end }}
{{ end -}}

{{- /* AppArmor's profile is a field from 1.30 on, and an annotation before. */ -}}
{{- define "parachute.appArmorField" -}}
{{- if semverCompare ">=1.30-0" (.Values.kubeVersion | default .Capabilities.KubeVersion.Version) }}yes{{ end -}}
{{- end -}}
