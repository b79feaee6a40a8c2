{{- define "freshet.name" -}}
{{- if contains "freshet" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-freshet" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "freshet.selector" -}}
app.kubernetes.io/name: freshet
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "freshet.labels" -}}
{{ include "freshet.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "freshet.image" -}}
{{- with .Values.image }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}{{ end }}
{{- end }}

{{- define "freshet.account" -}}
{{ .Values.serviceAccount.name | default (include "freshet.name" .) }}
{{- end }}

{{- define "freshet.datasets" -}}
{{- if .Values.datasets.existingConfigMap }}{{ .Values.datasets.existingConfigMap }}
{{- else if .Values.datasets.files }}{{ include "freshet.name" . }}-datasets
{{- else }}{{ fail "datasets: give files, or existingConfigMap" }}{{ end }}
{{- end }}

{{- define "freshet.secret" -}}
{{ required "secrets.existingSecret: name the Secret with the DSN, the URL and the tokens" .Values.secrets.existingSecret }}
{{- end }}

{{/* The settings file: what the values give, and on top of it what the chart decides. */}}
{{- define "freshet.settings" -}}
{{- $keys := .Values.secrets.keys -}}
{{- $dir := "/etc/freshet/secrets/" -}}
{{- $s := deepCopy .Values.settings -}}
{{- $own := dict "datasets" "/etc/freshet/datasets" "worker" (dict "listen" "0.0.0.0:7788") "relay" (dict "listen" "0.0.0.0:7790") "admin" (dict "listen" "0.0.0.0:7789" "tokens_file" (printf "%s%s" $dir (required "secrets.keys.tokens is needed: clients of the listeners have to show a token" $keys.tokens))) -}}
{{- with $keys.mysqlDSN }}{{ $_ := set $own "mysql" (dict "dsn_file" (printf "%s%s" $dir .)) }}{{ end -}}
{{- with $keys.redisURL }}{{ $_ := set $own "redis" (dict "url_file" (printf "%s%s" $dir .)) }}{{ end -}}
{{- with $keys.relayDSN }}{{ $_ := set $own.relay "dsn_file" (printf "%s%s" $dir .) }}{{ end -}}
{{- with $keys.kafkaPassword }}{{ $own = mergeOverwrite $own (dict "kafka" (dict "sasl" (dict "password_file" (printf "%s%s" $dir .)))) }}{{ end -}}
{{- with $keys.kafkaCA }}{{ $own = mergeOverwrite $own (dict "kafka" (dict "tls" (dict "enabled" true "ca_file" (printf "%s%s" $dir .)))) }}{{ end -}}
{{- with $keys.mysqlCA }}{{ $own = mergeOverwrite $own (dict "mysql" (dict "tls" (dict "enabled" true "ca_file" (printf "%s%s" $dir .)))) }}{{ end -}}
{{- with $keys.redisCA }}{{ $own = mergeOverwrite $own (dict "redis" (dict "tls" (dict "enabled" true "ca_file" (printf "%s%s" $dir .)))) }}{{ end -}}
{{- if $keys.tlsCert }}{{ $own = mergeOverwrite $own (dict "admin" (dict "tls" (dict "cert_file" (printf "%s%s" $dir $keys.tlsCert) "key_file" (printf "%s%s" $dir $keys.tlsKey)))) }}{{ end -}}
{{- if not $s.kafka.brokers }}{{ fail "settings.kafka.brokers: name at least one host:port" }}{{ end -}}
{{- toYaml (mergeOverwrite $s $own) -}}
{{- end }}

{{- define "freshet.scheme" -}}
{{ if .Values.secrets.keys.tlsCert }}HTTPS{{ else }}HTTP{{ end }}
{{- end }}

{{/* A container that runs freshet. Arguments: root, name, args, resources. */}}
{{- define "freshet.container" -}}
name: {{ .name }}
image: {{ include "freshet.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args:
{{- toYaml .args | nindent 2 }}
env:
  - name: FRESHET_WORKER__ID
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  - name: FRESHET_RELAY__ID
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  - name: POD_IP
    valueFrom: {fieldRef: {fieldPath: status.podIP}}
  - name: FRESHET_WORKER__ADVERTISE
    value: $(POD_IP):7788
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
resources:
{{- toYaml .resources | nindent 2 }}
volumeMounts:
  - {name: settings, mountPath: /etc/freshet/settings, readOnly: true}
  - {name: datasets, mountPath: /etc/freshet/datasets, readOnly: true}
  - {name: secrets, mountPath: /etc/freshet/secrets, readOnly: true}
{{- end }}

{{- define "freshet.pod" -}}
serviceAccountName: {{ include "freshet.account" .root }}
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: settings
    configMap: {name: {{ include "freshet.name" .root }}-settings}
  - name: datasets
    configMap: {name: {{ include "freshet.datasets" .root }}}
  - name: secrets
    secret: {secretName: {{ .secret | default (include "freshet.secret" .root) }}, defaultMode: 0440}
{{- end }}
