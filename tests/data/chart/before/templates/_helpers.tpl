{{- define "vllm-operator.fullname" -}}
{{- with .Values.name }}{{ . }}-{{ end }}vllm-operator
{{- end }}

{{- define "vllm-operator.labels" -}}
app.kubernetes.io/name: {{ include "vllm-operator.fullname" . }}
app.kubernetes.io/part-of: vllm-operator
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
