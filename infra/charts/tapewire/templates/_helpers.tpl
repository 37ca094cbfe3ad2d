{{- define "tapewire.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- /* Labels of a part: (dict "root" $ "part" "edge") */ -}}
{{- define "tapewire.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "tapewire.labels" -}}
{{ include "tapewire.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: tapewire
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "tapewire.image" -}}
{{- $image := .root.Values.image -}}
{{- with $image.registry }}{{ . }}/{{ end }}{{ $image.prefix }}{{ .part }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "tapewire.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "tapewire.name" .) }}
{{- else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{- /* The user that Strimzi makes for a part, where no secret of yours is named. */ -}}
{{- define "tapewire.strimziUser" -}}
{{- $strimzi := .root.Values.strimzi -}}
{{- if and $strimzi.enabled $strimzi.users.enabled (eq $strimzi.users.authentication .authentication) -}}
{{ include "tapewire.name" .root }}-{{ .part }}
{{- end }}
{{- end }}

{{- /* The secrets of a part for Kafka: (dict "root" $ "part" "edge" "kafka" .Values.edge.kafka) */ -}}
{{- define "tapewire.saslSecret" -}}
{{ .kafka.saslSecretName | default .root.Values.kafka.saslSecret.name | default (include "tapewire.strimziUser" (dict "root" .root "part" .part "authentication" "scram-sha-512")) }}
{{- end }}
{{- define "tapewire.certificateSecret" -}}
{{ .kafka.clientCertificateSecretName | default .root.Values.kafka.clientCertificateSecret.name | default (include "tapewire.strimziUser" (dict "root" .root "part" .part "authentication" "tls")) }}
{{- end }}
{{- define "tapewire.caSecret" -}}
{{- $strimzi := .root.Values.strimzi -}}
{{ .root.Values.kafka.caSecret.name | default (ternary (printf "%s-cluster-ca-cert" $strimzi.cluster) "" (and $strimzi.enabled (has .root.Values.kafka.securityProtocol (list "SSL" "SASL_SSL")))) }}
{{- end }}

{{- define "tapewire.kafkaEnv" -}}
{{- $kafka := .root.Values.kafka -}}
- name: KAFKA_BOOTSTRAP_SERVERS
  value: {{ required "kafka.bootstrapServers is empty; name your brokers, as in kafka-1:9092" $kafka.bootstrapServers | quote }}
- name: KAFKA_SECURITY_PROTOCOL
  value: {{ $kafka.securityProtocol }}
{{- with $kafka.topicPrefix }}
- name: TAPEWIRE_TOPIC_PREFIX
  value: {{ . | quote }}
{{- end }}
{{- with $kafka.saslMechanism }}
- name: KAFKA_SASL_MECHANISM
  value: {{ . }}
{{- end }}
{{- if include "tapewire.saslSecret" . }}
{{- if or .kafka.saslSecretName $kafka.saslSecret.name }}
- name: KAFKA_SASL_USERNAME_FILE
  value: /etc/tapewire/sasl/{{ $kafka.saslSecret.usernameKey }}
{{- else }}
- name: KAFKA_SASL_USERNAME
  value: {{ include "tapewire.saslSecret" . }}
{{- end }}
- name: KAFKA_SASL_PASSWORD_FILE
  value: /etc/tapewire/sasl/{{ $kafka.saslSecret.passwordKey }}
{{- end }}
{{- if include "tapewire.caSecret" . }}
- name: KAFKA_SSL_CA_FILE
  value: /etc/tapewire/ca/{{ $kafka.caSecret.key }}
{{- end }}
{{- if include "tapewire.certificateSecret" . }}
- name: KAFKA_SSL_CERTIFICATE_FILE
  value: /etc/tapewire/client/{{ $kafka.clientCertificateSecret.certificateKey }}
- name: KAFKA_SSL_KEY_FILE
  value: /etc/tapewire/client/{{ $kafka.clientCertificateSecret.keyKey }}
{{- end }}
{{- include "tapewire.registryEnv" .root.Values.schemaRegistry }}
{{- end }}

{{- define "tapewire.registryEnv" -}}
{{- if .url }}
- {name: TAPEWIRE_SCHEMA_REGISTRY_URL, value: {{ .url | quote }}}
- {name: TAPEWIRE_WIRE, value: {{ .wire }}}
{{- with .credentialsSecret }}
{{- if .name }}
- name: TAPEWIRE_SCHEMA_REGISTRY_USERNAME
  valueFrom: {secretKeyRef: {name: {{ .name }}, key: {{ .usernameKey }}}}
- name: TAPEWIRE_SCHEMA_REGISTRY_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ .name }}, key: {{ .passwordKey }}}}
{{- end }}
{{- end }}
{{- if .caSecret.name }}
- {name: TAPEWIRE_SCHEMA_REGISTRY_CA_FILE, value: /etc/tapewire/registry/{{ .caSecret.key }}}
{{- end }}
{{- else if ne .wire "single_object" }}
{{- fail "schemaRegistry.wire is confluent, which needs schemaRegistry.url for the ids of schemas" }}
{{- end }}
{{- end }}

{{- define "tapewire.registrySecret" -}}
{{- with .root.Values.schemaRegistry }}{{ if .url }}{{ .caSecret.name }}{{ end }}{{ end }}
{{- end }}

{{- define "tapewire.metricsEnv" -}}
- {name: TAPEWIRE_METRICS_PORT, value: "9100"}
- name: TAPEWIRE_METRICS_HOST
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
{{- end }}

{{- define "tapewire.kafkaMounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if include "tapewire.saslSecret" . }}
- {name: sasl, mountPath: /etc/tapewire/sasl, readOnly: true}
{{- end }}
{{- if include "tapewire.caSecret" . }}
- {name: ca, mountPath: /etc/tapewire/ca, readOnly: true}
{{- end }}
{{- if include "tapewire.certificateSecret" . }}
- {name: client, mountPath: /etc/tapewire/client, readOnly: true}
{{- end }}
{{- if include "tapewire.registrySecret" . }}
- {name: registry, mountPath: /etc/tapewire/registry, readOnly: true}
{{- end }}
{{- end }}

{{- define "tapewire.kafkaVolumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 256Mi}
{{- with include "tapewire.saslSecret" . }}
- name: sasl
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- with include "tapewire.caSecret" . }}
- name: ca
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- with include "tapewire.certificateSecret" . }}
- name: client
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- with include "tapewire.registrySecret" . }}
- name: registry
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{- /* Settings of all parts, and then those of one: later entries win. */ -}}
{{- define "tapewire.settings" -}}
{{- range $name, $value := merge (dict) .own .root.Values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- with .extra }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "tapewire.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "tapewire.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* What all pods have: (dict "root" $ "part" "edge" "values" .Values.edge) */ -}}
{{- define "tapewire.pod" -}}
serviceAccountName: {{ include "tapewire.serviceAccount" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext: {{- include "tapewire.podSecurity" . | nindent 2 }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.topologySpread }}
{{- if .enabled }}
topologySpreadConstraints:
{{- range .keys }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "tapewire.selector" $ | nindent 8 }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
