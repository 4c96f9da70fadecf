{{- define "maleo.labels" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/part-of: maleo
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}
