{{- /* Parts that several files use. */ -}}

{{- define "limner.name" -}}
{{- if contains "limner" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-limner" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end -}}
{{- end -}}

{{- /* What selects the pods of a part, and never changes: (dict "top" . "part" "web") */ -}}
{{- define "limner.selector" -}}
app.kubernetes.io/name: limner
app.kubernetes.io/instance: {{ .top.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{- define "limner.labels" -}}
{{ include "limner.selector" . }}
app.kubernetes.io/version: {{ .top.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .top.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .top.Chart.Name .top.Chart.Version }}
{{- end -}}

{{- define "limner.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- /* The profile "restricted" of Pod Security Standards. */ -}}
{{- define "limner.podSecurity" -}}
automountServiceAccountToken: false
# A service named limner would put LIMNER_SERVICE_HOST into the environment, which Limner refuses as misspelt.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 0
  fsGroup: 0
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "limner.containerSecurity" -}}
image: {{ include "limner.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  - {name: data, mountPath: /data}
{{- end -}}

{{- define "limner.volumes" -}}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 1Gi}
  - name: data
    {{- if .Values.blobs.existingClaim }}
    persistentVolumeClaim: {claimName: {{ .Values.blobs.existingClaim | quote }}}
    {{- else }}
    emptyDir: {sizeLimit: 1Gi}
    {{- end }}
{{- end -}}

{{- define "limner.secret" -}}
valueFrom: {secretKeyRef: {name: {{ .secret | quote }}, key: {{ .key }}}}
{{- end -}}

{{- define "limner.environment" -}}
- name: LIMNER_DATABASE_URL
  {{- include "limner.secret" (dict "secret" .Values.existingSecret "key" "database-url") | nindent 2 }}
- name: LIMNER_ENGINE_URL
  {{- include "limner.secret" (dict "secret" .Values.existingSecret "key" "engine-url") | nindent 2 }}
- name: LIMNER_BUS_URL
  {{- include "limner.secret" (dict "secret" .Values.existingSecret "key" "bus-url") | nindent 2 }}
- {name: LIMNER_BLOBS_URL, value: {{ .Values.blobs.url | quote }}}
- {name: LIMNER_LOG_FORMAT, value: json}
{{- if hasPrefix "s3://" .Values.blobs.url }}
- {name: AWS_REGION, value: {{ .Values.s3.region | quote }}}
{{- with .Values.s3.endpoint }}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
{{- if .Values.s3.allowHttp }}
- {name: AWS_ALLOW_HTTP, value: "true"}
{{- end }}
{{- with .Values.s3.existingSecret }}
- name: AWS_ACCESS_KEY_ID
  {{- include "limner.secret" (dict "secret" . "key" "access-key") | nindent 2 }}
- name: AWS_SECRET_ACCESS_KEY
  {{- include "limner.secret" (dict "secret" . "key" "secret-key") | nindent 2 }}
{{- end }}
{{- end }}
{{- range $name, $value := .Values.settings }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}

{{- define "limner.scheduling" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
