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

{{- /* The configuration, with `probe_root` before it unless it is in there. */ -}}
{{- define "parachute.config" -}}
{{- $text := .Values.config | default (.Files.Get "files/parachute.yml") -}}
{{- if not (regexMatch "(?m)^probe_root:" $text) }}probe_root: {{ .Values.probeRoot }}
{{ end -}}
{{- $text -}}
{{- end -}}

{{- define "parachute.web" -}}
{{- with .Values.web.tls.existingSecret -}}
tls_server_config: { cert_file: tls/tls.crt, key_file: tls/tls.key }
{{ end -}}
bearer_tokens:
  prometheus: { roles: [read], file: tokens/prometheus }
  alertmanager: { roles: [trigger], file: tokens/alertmanager }
  view: { roles: [read, view, trigger], file: tokens/view }
{{ end -}}

{{- /* AppArmor's profile is a field from 1.30 on, and an annotation before. */ -}}
{{- define "parachute.appArmorField" -}}
{{- if semverCompare ">=1.30-0" (.Values.kubeVersion | default .Capabilities.KubeVersion.Version) }}yes{{ end -}}
{{- end -}}
